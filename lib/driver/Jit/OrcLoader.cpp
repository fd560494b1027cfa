//===- OrcLoader.cpp - kernels that debuggers and profilers know ----------===//
#include "lib/driver/Jit/OrcLoader.h"

#include "lib/base/Artifact/ElfImage.h"
#include "lib/driver/Jit/PerfDump.h"

#include "llvm/ExecutionEngine/JITEventListener.h"
#include "llvm/ExecutionEngine/Orc/ObjectFileInterface.h"
#include "llvm/ExecutionEngine/Orc/RTDyldObjectLinkingLayer.h"
#include "llvm/ExecutionEngine/Orc/SelfExecutorProcessControl.h"
#include "llvm/ExecutionEngine/SectionMemoryManager.h"

#include <algorithm>
#include <cstdio>
#include <mutex>

using namespace kvc;
using namespace llvm;
using namespace llvm::orc;

namespace {

/// One linked object, in a session of its own: a session costs microseconds,
/// and threads that load share nothing but the debugger's list.
class Code {
public:
  static Expected<std::unique_ptr<Code>> link(StringRef object,
                                              JITEventListener *profiler);
  ~Code() {
    if (Error error = session.endSession())
      session.reportError(std::move(error));
  }
  void *symbol(StringRef name) const { return functions.lookup(name); }

private:
  explicit Code(std::unique_ptr<ExecutorProcessControl> process,
                JITEventListener *profiler);
  Error add(StringRef object);

  ExecutionSession session;
  RTDyldObjectLinkingLayer layer;
  StringMap<void *> functions;
  std::string reported; ///< why linking failed
};

} // namespace

/// One block for code and constants: RuntimeDyld does not notice a relocation
/// that does not reach.
static std::unique_ptr<RuntimeDyld::MemoryManager>
makeMemory(const MemoryBuffer &) {
  return std::make_unique<SectionMemoryManager>(nullptr, /*ReserveAlloc=*/true);
}

/// RuntimeDyld and not JITLink: of the two, in LLVM 22, only its listener takes
/// an object back from the debugger when it dies. JITLink's plugin leaves the
/// debugger an entry that points to freed memory.
Code::Code(std::unique_ptr<ExecutorProcessControl> process,
           JITEventListener *profiler)
    : session(std::move(process)), layer(session, makeMemory) {
  session.setErrorReporter([this](Error error) {
    reported += (reported.empty() ? "" : "; ") + toString(std::move(error));
  });
  layer.registerJITEventListener(
      *JITEventListener::createGDBRegistrationListener());
  if (profiler)
    layer.registerJITEventListener(*profiler);
}

Error Code::add(StringRef object) {
  JITDylib &library = session.createBareJITDylib("kernels");
  auto buffer = MemoryBuffer::getMemBuffer(object, "object", false);
  auto interface = getObjectFileInterface(session, *buffer);
  if (!interface)
    return interface.takeError();
  SymbolLookupSet wanted;
  for (auto &[name, flags] : interface->SymbolFlags)
    if (flags.isCallable() && flags.isExported())
      wanted.add(name);
  if (Error error =
          layer.add(library, std::move(buffer), std::move(*interface)))
    return error;
  // Looking up links: here, so that failures are known.
  auto found = session.lookup(
      {{&library, JITDylibLookupFlags::MatchAllSymbols}}, std::move(wanted));
  if (!found)
    return found.takeError();
  for (auto &[name, definition] : *found)
    functions[*name] = definition.getAddress().toPtr<void *>();
  return Error::success();
}

Expected<std::unique_ptr<Code>> Code::link(StringRef object,
                                           JITEventListener *profiler) {
  // All of its work is done on the calling thread.
  auto process = SelfExecutorProcessControl::Create(
      nullptr, std::make_unique<InPlaceTaskDispatcher>());
  if (!process)
    return process.takeError();
  std::unique_ptr<Code> code(new Code(std::move(*process), profiler));
  Error error = code->add(object);
  if (!error)
    return code;
  // What the session reported is the cause, what a lookup returns that there
  // is one.
  if (code->reported.empty())
    return error;
  consumeError(std::move(error));
  return createStringError(code->reported);
}

static void *load(void *context, const void *object, size_t bytes, char *error,
                  size_t errorBytes) try {
  // LLVM's linker trusts an object. The runtime's loader does not, and refuses
  // first; only unwind tables it does not read.
  std::string why;
  if (kvc::artifact::ElfImage::load(
          {static_cast<const uint8_t *>(object), bytes}, why)) {
    auto *dump = static_cast<PerfDump *>(context);
    auto code = Code::link({static_cast<const char *>(object), bytes}, dump);
    // Whoever asked for a dump would not notice that it lacks something.
    why = !code ? toString(code.takeError()) : dump ? dump->error() : "";
    if (why.empty())
      return code->release();
    std::replace(why.begin(), why.end(), '\n', ' ');
  }
  snprintf(error, errorBytes, "%s", why.c_str());
  return nullptr;
} catch (const std::bad_alloc &) {
  *error = 0; // of our own; LLVM would end the process
  return nullptr;
}

static void *symbolOf(void *, void *code, const char *name) {
  return static_cast<Code *>(code)->symbol(name);
}

static void release(void *, void *code) { delete static_cast<Code *>(code); }

static kvc_code_loader makeLoader(PerfDump *dump) {
  // The listener is made here, so that it dies after what is loaded.
  JITEventListener::createGDBRegistrationListener();
  return {sizeof(kvc_code_loader), dump, load, symbolOf, release};
}

const kvc_code_loader *kvc::orcCodeLoader() {
  static const kvc_code_loader plain = makeLoader(nullptr);
  return &plain;
}

const kvc_code_loader *kvc::orcDumpingCodeLoader(std::string &error) {
  static std::mutex lock;
  static const kvc_code_loader *dumping = nullptr;
  std::lock_guard guard(lock);
  if (dumping)
    return dumping;
  std::unique_ptr<PerfDump> dump = PerfDump::create(error);
  // Lives as long as the process: whoever loads may do so until its end.
  if (dump)
    dumping = new kvc_code_loader(makeLoader(dump.release()));
  return dumping;
}
