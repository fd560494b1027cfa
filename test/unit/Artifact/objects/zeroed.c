// Refused: has a variable without bytes in the file.

static int counter;
int kernel(int x) { return counter += x; }
