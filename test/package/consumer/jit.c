/* jit.c - compiles a spec and loads what came out, in one process.
 *
 *   jit SPEC
 */
#include <kvc/compiler.h>
#include <kvc/runtime.h>

#include <stdio.h>
#include <stdlib.h>

static void must(kvc_status status, const char *what) {
  if (status.code == KVC_OK)
    return;
  fprintf(stderr, "%s: %s: %s\n", what, kvc_code_name(status.code),
          kvc_error_text());
  exit(1);
}

int main(int argc, char **argv) {
  static char spec[1 << 16];
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!file || kvc_compiler_abi() != KVC_COMPILER_ABI)
    return 2;
  size_t spec_bytes = fread(spec, 1, sizeof(spec), file);
  fclose(file);

  void *artifact, *messages;
  size_t artifact_bytes;
  kvc_compile_options options = {.size = sizeof(options), .name = argv[1]};
  uint32_t code = kvc_compile(spec, spec_bytes, &options, &artifact,
                              &artifact_bytes, &messages, NULL);
  if (code != KVC_COMPILE_OK)
    fprintf(stderr, "%s", (const char *)messages);
  kvc_compile_free(messages);
  if (code != KVC_COMPILE_OK)
    return 1;

  kvc_device *device;
  kvc_program *program;
  kvc_cpu_options cpu = {.size = sizeof(cpu),
                         .code_loader = kvc_orc_code_loader(0)};
  must(kvc_device_create_cpu(&cpu, &device), "kvc_device_create_cpu");
  must(kvc_program_load(device, artifact, artifact_bytes, &program),
       "kvc_program_load");
  kvc_compile_free(artifact);
  printf("%s for %s: %u stores\n", kvc_program_name(program),
         kvc_program_target(program), kvc_program_store_count(program));
  kvc_program_release(program);
  kvc_device_release(device);
  return 0;
}
