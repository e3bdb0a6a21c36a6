/* The least that running a graph of tasks can cost: posix_spawn, wait, and nothing else.
 *
 *     floor LIMIT GRAPH INTERPRETER SCRIPT
 *
 * GRAPH holds the number of tasks, then for each task its argument (without white space), the number of its upstream tasks,
 * and their indices. Each task is `INTERPRETER SCRIPT ARGUMENT`, started once its upstream tasks have ended, at most LIMIT at a
 * time, with the descriptors and the environment that floor itself was given. Exits with 0 if every task has run and exited with 0.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    if (memory == NULL) {
        perror("floor");
        exit(2);
    }
    return memory;
}

static long number(FILE *file)
{
    long value;
    if (fscanf(file, "%ld", &value) != 1) {
        fputs("floor: the graph is broken\n", stderr);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: floor LIMIT GRAPH INTERPRETER SCRIPT\n", stderr);
        return 2;
    }
    long limit = atol(argv[1]);
    FILE *file = fopen(argv[2], "re");
    if (file == NULL) {
        perror(argv[2]);
        return 2;
    }

    long count = number(file);
    char(*argument)[32] = allocate(count, sizeof *argument);
    long *open_upstream = allocate(count, sizeof(long)); /* how many have not ended yet */
    long **upstream = allocate(count, sizeof(long *));
    long *first = allocate(count + 1, sizeof(long)); /* where a task's downstream begins */
    for (long task = 0; task < count; task++) {
        if (fscanf(file, "%31s", argument[task]) != 1) {
            fputs("floor: the graph is broken\n", stderr);
            return 2;
        }
        open_upstream[task] = number(file);
        upstream[task] = allocate(open_upstream[task], sizeof(long));
        for (long i = 0; i < open_upstream[task]; i++) {
            upstream[task][i] = number(file);
            first[upstream[task][i] + 1]++;
        }
    }
    fclose(file);
    for (long task = 0; task < count; task++)
        first[task + 1] += first[task];
    long *downstream = allocate(first[count], sizeof(long));
    long *filled = allocate(count, sizeof(long));
    for (long task = 0; task < count; task++)
        for (long i = 0; i < open_upstream[task]; i++) {
            long other = upstream[task][i];
            downstream[first[other] + filled[other]++] = task;
        }

    long *ready = allocate(count, sizeof(long)); /* a queue: each task enters it once */
    long head = 0, tail = 0, running = 0, ended = 0;
    for (long task = 0; task < count; task++)
        if (open_upstream[task] == 0)
            ready[tail++] = task;

    struct { pid_t pid; long task; } *slots = allocate(limit, sizeof *slots);
    while (ended < count) {
        while (running < limit && head < tail) {
            long task = ready[head++];
            char *command[] = {argv[3], argv[4], argument[task], NULL};
            slots[running].task = task;
            if (posix_spawn(&slots[running].pid, command[0], NULL, NULL, command, environ) != 0) {
                fprintf(stderr, "floor: cannot start %s\n", command[0]);
                return 1;
            }
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fputs("floor: a task has failed\n", stderr);
            return 1;
        }
        long slot = 0;
        while (slots[slot].pid != pid)
            slot++;
        long task = slots[slot].task;
        slots[slot] = slots[--running];
        ended++;
        for (long i = first[task]; i < first[task + 1]; i++)
            if (--open_upstream[downstream[i]] == 0)
                ready[tail++] = downstream[i];
    }
    return 0;
}
