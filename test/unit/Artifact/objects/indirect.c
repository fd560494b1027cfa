// Refused: a function that is chosen by another while loading.

static int plain(int x) { return x; }
static int (*choose(void))(int) { return plain; }
int kernel(int x) __attribute__((ifunc("choose")));
