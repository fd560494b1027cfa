// Refused: has a variable of each thread.

static __thread int counter = 1;
int kernel(int x) { return counter += x; }
