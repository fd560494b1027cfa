// Constants, tables and calls in every form that LLVM's objects have them.

static const float weights[16] = {1, 2,  3,  4,  5,  6,  7,  8,
                                  9, 10, 11, 12, 13, 14, 15, 16.5f};

// A constant of its own section (.rodata.cst4) and an array (.rodata).
float weigh(float x, int i) { return x * 3.25f + weights[i & 15]; }

__attribute__((noinline)) int twice(int x) { return 2 * x; }
// A call through PLT32.
int callTwice(int x) { return twice(x) + 1; }

// A jump table: offsets relative to itself.
int jump(int n, int x) {
  switch (n) {
  case 0:
    return x * x;
  case 1:
    return x - 17;
  case 2:
    return twice(x) ^ 5;
  case 3:
    return x / 3;
  case 4:
    return x << 4;
  case 5:
    return ~x;
  }
  return -1;
}

static int negate(int x) { return -x; }
static int increment(int x) { return x + 1; }
// Absolute addresses among constants (.data.rel.ro).
static int (*const volatile operations[2])(int) = {negate, increment};
int apply(int which, int x) { return operations[which & 1](x); }

// A 64-bit distance.
__asm__(".section .rodata,\"a\",@progbits\n"
        ".p2align 3\n"
        "distance: .quad twice - distance\n"
        ".text\n");
extern const long long distance __attribute__((visibility("hidden")));
int callByDistance(int x) {
  return ((int (*)(int))((const char *)&distance + distance))(x);
}
