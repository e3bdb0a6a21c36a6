"""A run → one HTML file that needs nothing besides: no network, no script from elsewhere.

`collect` reads a run and the ends of its logs, which are its `contents`; all else is pure, and makes text of that: `page` the
whole, `overview` what stands first, `picture` the graph, `gantt` the timeline, `table` the tasks, by elements of `markup` and
with the words of `words`. Style and script are the files `report.css` and `report.js`; the page can be read without either, and
a browser runs no other.
"""
