// Refused: no page boundary of ours is that even.

static const volatile int numbers[4] __attribute__((aligned(8192))) = {1, 2};
int kernel(int x) { return numbers[x & 3]; }
