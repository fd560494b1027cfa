// Refused: reaches a constant through a table that only a linker makes.

const int numbers[4] = {1, 2, 3, 4};
int kernel(int x) { return numbers[x & 3]; }
