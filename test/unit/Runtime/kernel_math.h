/*===- kernel_math.h - arithmetic of the kernels by hand ----------*- C -*-===//
 *
 * The model of Fixture.h, and functions that need no library: kernels call
 * nothing.
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_TEST_UNIT_RUNTIME_KERNEL_MATH_H
#define KVC_TEST_UNIT_RUNTIME_KERNEL_MATH_H

#include <stdint.h>

enum { QueryHeads = 4, Group = 2, DimK = 8, DimV = 16 };

static double power2(int n) {
  union {
    uint64_t bits;
    double value;
  } u = {(uint64_t)(n + 1023) << 52};
  return u.value;
}

static double exponential(double x) {
  if (x < -700)
    return 0;
  int n = (int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
  double r = x - n * 0.6931471805599453, sum = 1, term = 1;
  for (int i = 1; i < 16; ++i) {
    term *= r / i;
    sum += term;
  }
  return sum * power2(n);
}

static double logarithm(double x) {
  union {
    double value;
    uint64_t bits;
  } u = {x};
  int n = (int)(u.bits >> 52) - 1023;
  double m = x / power2(n), t = (m - 1) / (m + 1), sum = 0, term = t;
  for (int i = 1; i < 60; i += 2) {
    sum += term / i;
    term *= t * t;
  }
  return 2 * sum + n * 0.6931471805599453;
}

#endif /* KVC_TEST_UNIT_RUNTIME_KERNEL_MATH_H */
