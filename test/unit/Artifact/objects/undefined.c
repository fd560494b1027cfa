// Refused: calls somebody else.

int elsewhere(int x);
int kernel(int x) { return elsewhere(x) + 1; }
