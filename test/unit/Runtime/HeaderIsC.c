/* HeaderIsC.c - the header compiles as strict C and its enums are values. */
#include "kvc/runtime.h"

uint32_t kvc_test_header_is_c(void);

uint32_t kvc_test_header_is_c(void) {
  kvc_status status = kvc_device_create_cpu(0, 0);
  return status.code == KVC_INVALID_ARGUMENT ? kvc_runtime_abi() : 0;
}
