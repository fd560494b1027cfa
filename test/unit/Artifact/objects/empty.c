// Refused: no code at all.

extern const int number __attribute__((visibility("hidden")));
const int number = 5;
