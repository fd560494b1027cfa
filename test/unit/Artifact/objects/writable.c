// Refused: has a variable.

int counter = 3;
int kernel(int x) { return counter += x; }
