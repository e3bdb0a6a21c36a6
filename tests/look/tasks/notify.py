print("told ops@shop.example")
