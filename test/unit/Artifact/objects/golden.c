// The code in the golden artifacts.

static const int answers[4] = {42, 7, 1, -3};

int kvc_golden(int i) { return answers[i & 3]; }
