//===- ToolTest.cpp - programs that misbehave, and what they leave --------===//
#include "codegen/nvptx/Tool.h"
#include "codegen/nvptx/Backend.h"
#include "test/support/Files.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <csignal>
#include <fstream>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kvc;
using namespace kvc::nvptx;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

namespace {

constexpr const char *kPtx = ".version 8.0\n.target sm_80\n.address_size 64\n"
                             ".visible .entry kvc_k() { ret; }\n";

SmTarget sm80() { return *findSmTarget("sm_80"); }

/// A folder for all that a test makes, and one in it that is $TMPDIR.
class ToolTest : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(mkdir(temporary.c_str(), 0700), 0);
    ASSERT_EQ(mkdir((root + "/bin").c_str(), 0700), 0);
    setenv("TMPDIR", temporary.c_str(), 1);
    path_ = getenv("PATH");
  }
  void TearDown() override {
    EXPECT_THAT(filesLeft(), IsEmpty());
    unsetenv("TMPDIR");
    setenv("PATH", path_.c_str(), 1);
  }

  std::vector<std::string> filesLeft() const {
    std::vector<std::string> files;
    std::error_code error;
    for (llvm::sys::fs::directory_iterator entry(temporary, error), end;
         entry != end && !error; entry.increment(error))
      files.push_back(entry->path());
    return files;
  }
  /// Puts a shell script into PATH by the name of ptxas.
  std::string script(const std::string &body) const {
    std::string name = root + "/bin/ptxas";
    std::ofstream(name) << "#!/bin/sh\n" << body << "\n";
    chmod(name.c_str(), 0700);
    setenv("PATH", (root + "/bin:" + path_).c_str(), 1);
    return name;
  }
  std::optional<std::string> run(const std::string &body,
                                 std::chrono::milliseconds time = kToolTime) {
    return runTool({script(body)}, error, time);
  }
  std::optional<Cubin> assemble(const std::string &body) {
    script(body);
    return kvc::nvptx::assemble(kPtx, sm80(), error, Assembler::Ptxas);
  }

  test::TempDir folder;
  std::string root = folder.path(), temporary = folder.path("temporary");
  std::string path_, error;
};

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

TEST_F(ToolTest, GivesBackWhatIsSaid) {
  EXPECT_EQ(run("echo out; echo err >&2"), "out\nerr\n");
  EXPECT_EQ(run("exit 0"), "");
  // Nobody types.
  EXPECT_EQ(run("cat"), "");
  EXPECT_EQ(error, "");
}

TEST_F(ToolTest, SaysHowAProgramFailed) {
  EXPECT_EQ(run("echo no; exit 7"), std::nullopt);
  EXPECT_EQ(error, "exit status 7: no");
  EXPECT_EQ(run("kill -SEGV $$"), std::nullopt);
  EXPECT_EQ(error, "it was ended by signal 11 (Segmentation fault)");
  EXPECT_EQ(runTool({root + "/none"}, error), std::nullopt);
  EXPECT_EQ(error, "cannot run `" + root + "/none`: No such file or directory");
}

TEST_F(ToolTest, EndsWhatHangs) {
  std::string marker = root + "/child";
  auto start = std::chrono::steady_clock::now();
  // Its child hangs as well, and has the pipe.
  EXPECT_EQ(run("sleep 1000 & echo $! > " + marker + "; wait",
                std::chrono::milliseconds(300)),
            std::nullopt);
  EXPECT_EQ(error, "it took too long");
  // Without a pipe to hear of it.
  EXPECT_EQ(
      run("exec sleep 1000 > /dev/null 2>&1", std::chrono::milliseconds(100)),
      std::nullopt);
  EXPECT_EQ(error, "it took too long");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  int child = 0;
  std::ifstream(marker) >> child;
  ASSERT_GT(child, 0);
  // Dead, if not yet collected by whoever has inherited it.
  for (int i = 0; i < 1000 && kill(child, 0) == 0; ++i) {
    std::string state, word;
    std::ifstream file("/proc/" + std::to_string(child) + "/stat");
    file >> word >> word >> state;
    if (state == "Z")
      break;
    usleep(1000);
    ASSERT_LT(i, 999) << "the child lives, in state " << state;
  }
}

TEST_F(ToolTest, DoesNotWaitForWhatAProgramLeavesBehind) {
  auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(run("sleep 1000 & echo done"), "done\n");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST_F(ToolTest, EndsAFlood) {
  EXPECT_EQ(run("exec cat /dev/zero"), std::nullopt);
  EXPECT_EQ(error, "it said more than 67108864 bytes");
  // On the disk, where the kernel stops it.
  EXPECT_EQ(run("exec dd if=/dev/zero of=" + root +
                "/flood bs=1M count=1 seek=300 2> /dev/null"),
            std::nullopt);
  EXPECT_THAT(error, HasSubstr("File size limit exceeded"));
}

TEST_F(ToolTest, BoundsMemory) {
  EXPECT_EQ(run("ulimit -v; ulimit -c"), "33554432\n0\n");
}

TEST_F(ToolTest, TheHostsSignalsAreItsOwn) {
  // What the host blocks and ignores is not for the program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  auto ignored = signal(SIGTERM, SIG_IGN);
  EXPECT_EQ(run("kill -TERM $$; sleep 1000"), std::nullopt);
  EXPECT_EQ(error, "it was ended by signal 15 (Terminated)");
  signal(SIGTERM, ignored);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  // Who ignores its children hears of none.
  auto children = signal(SIGCHLD, SIG_IGN);
  EXPECT_EQ(run("exit 0"), std::nullopt);
  EXPECT_THAT(error, HasSubstr("ignores SIGCHLD"));
  signal(SIGCHLD, children);
}

TEST_F(ToolTest, RunsOnManyThreads) {
  std::string name = script("echo $1; exit $2");
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread)
    threads.emplace_back([&, thread] {
      std::string mine;
      for (int i = 0; i < 10; ++i)
        EXPECT_EQ(runTool({name, std::to_string(thread), "0"}, mine),
                  std::to_string(thread) + "\n");
    });
  for (std::thread &thread : threads)
    thread.join();
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

TEST_F(ToolTest, FoldersArePrivateAndGo) {
  mode_t before = umask(0);
  {
    ToolFolder folder(error);
    ASSERT_TRUE(folder.isOpen()) << error;
    ASSERT_TRUE(folder.write("a", llvm::arrayRefFromStringRef("text"), error));
    EXPECT_EQ(folder.read("a", error),
              (std::vector<uint8_t>{'t', 'e', 'x', 't'}));
    struct stat info;
    ASSERT_EQ(stat(folder.path("").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0700u);
    ASSERT_EQ(stat(folder.path("a").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600u);
    EXPECT_FALSE(folder.write("a", {}, error));
    EXPECT_THAT(error, HasSubstr("/a`: File exists"));
    EXPECT_EQ(folder.read("b", error), std::nullopt);
    EXPECT_THAT(error, HasSubstr("/b`: No such file or directory"));
    ASSERT_EQ(mkfifo(folder.path("pipe").c_str(), 0600), 0);
    EXPECT_EQ(folder.read("pipe", error), std::nullopt);
    ASSERT_EQ(symlink("/etc/passwd", folder.path("link").c_str()), 0);
    EXPECT_EQ(folder.read("link", error), std::nullopt);
  }
  umask(before);
}

TEST_F(ToolTest, AMissingTmpdirIsNamed) {
  setenv("TMPDIR", (root + "/none").c_str(), 1);
  EXPECT_FALSE(assemble("exit 0"));
  EXPECT_EQ(error, "cannot create a directory in `" + root +
                       "/none`: No such file or directory");
}

/// Runs a body in a process of its own, whose limits and mounts are its own.
template <typename Body> int inProcess(Body body) {
  pid_t child = fork();
  if (child == 0)
    _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

TEST_F(ToolTest, AFullTmpdirIsNamed) {
  constexpr int kNoMount = 99;
  int result = inProcess([&] {
    if (unshare(CLONE_NEWNS) || mount("", "/", "", MS_REC | MS_PRIVATE, "") ||
        mount("none", temporary.c_str(), "tmpfs", 0, "size=64k"))
      return kNoMount;
    ToolFolder folder(error);
    std::vector<uint8_t> much(100'000);
    if (!folder.isOpen() || folder.write("a", much, error))
      return 1;
    if (error !=
        "cannot write `" + folder.path("a") + "`: No space left on device")
      return 2;
    // The folder still stands, so its file takes all the space.
    if (assemble("exit 0"))
      return 3;
    return llvm::StringRef(error).ends_with("No space left on device") ? 0 : 4;
  });
  if (result == kNoMount)
    GTEST_SKIP() << "only root may mount a small file system";
  EXPECT_EQ(result, 0);
}

TEST_F(ToolTest, ALimitOfFileSizesIsNamedAndKillsNobody) {
  EXPECT_EQ(inProcess([&] {
              rlimit limit{100, 100};
              setrlimit(RLIMIT_FSIZE, &limit);
              ToolFolder folder(error);
              if (folder.write("a", std::vector<uint8_t>(1000), error))
                return 1;
              return error == "cannot write `" + folder.path("a") +
                                  "`: File too large"
                         ? 0
                         : 2;
            }),
            0);
}

//===----------------------------------------------------------------------===//
// Assemblers
//===----------------------------------------------------------------------===//

/// The smallest file that passes for a cubin with a kernel kvc_k, in the newer
/// ABI, as a shell would print it.
std::vector<uint8_t> smallCubin(unsigned sm) {
  using namespace llvm::ELF;
  struct {
    Elf64_Ehdr header = {};
    Elf64_Shdr sections[4] = {};
    Elf64_Sym symbols[2] = {};
    char names[8] = "\0kvc_k\0";
    uint64_t code[2] = {};
  } file;
  auto at = [&](const void *part) {
    return uint64_t(reinterpret_cast<const char *>(part) -
                    reinterpret_cast<const char *>(&file));
  };
  memcpy(file.header.e_ident, ElfMagic, 4);
  file.header.e_ident[EI_CLASS] = ELFCLASS64;
  file.header.e_ident[EI_DATA] = ELFDATA2LSB;
  file.header.e_ident[EI_VERSION] = EV_CURRENT;
  file.header.e_ident[EI_ABIVERSION] = ELFABIVERSION_CUDA_V2;
  file.header.e_type = ET_EXEC;
  file.header.e_machine = EM_CUDA;
  file.header.e_flags = sm << EF_CUDA_SM_OFFSET;
  file.header.e_shoff = at(file.sections);
  file.header.e_shentsize = sizeof(Elf64_Shdr);
  file.header.e_shnum = 4;
  file.header.e_shstrndx = 2;
  auto section = [&](unsigned i, uint32_t type, const void *part,
                     uint64_t size) {
    file.sections[i].sh_type = type;
    file.sections[i].sh_offset = at(part);
    file.sections[i].sh_size = size;
  };
  section(1, SHT_SYMTAB, file.symbols, sizeof(file.symbols));
  file.sections[1].sh_link = 2;
  file.sections[1].sh_info = 1;
  file.sections[1].sh_entsize = sizeof(Elf64_Sym);
  section(2, SHT_STRTAB, file.names, sizeof(file.names));
  section(3, SHT_PROGBITS, file.code, sizeof(file.code));
  file.symbols[1].st_name = 1;
  file.symbols[1].setBindingAndType(STB_GLOBAL, STT_FUNC);
  file.symbols[1].st_shndx = 3;
  file.symbols[1].st_size = sizeof(file.code);
  auto *bytes = reinterpret_cast<const uint8_t *>(&file);
  return {bytes, bytes + sizeof(file)};
}

TEST_F(ToolTest, LooksAtWhatTheAssemblerLeaves) {
  // In the place of its argument after -o.
  auto leaving = [&](std::vector<uint8_t> bytes) {
    std::ofstream(root + "/left", std::ios::binary)
        .write(reinterpret_cast<const char *>(bytes.data()),
               std::streamsize(bytes.size()));
    return "[ $1 = --version ] || cp " + root + "/left $5";
  };
  std::string left = "`" + root + "/bin/ptxas` left no cubin: ";
  auto cubin = assemble(leaving(smallCubin(80)));
  ASSERT_TRUE(cubin) << error;
  EXPECT_EQ(cubin->bytes, smallCubin(80));

  EXPECT_FALSE(assemble("exit 0"));
  EXPECT_THAT(error, StartsWith(left + "cannot read `" + temporary));
  EXPECT_THAT(error, HasSubstr("/kernels.cubin`: No such file or directory"));
  EXPECT_FALSE(assemble(leaving({})));
  EXPECT_EQ(error, left + "it is empty");
  EXPECT_FALSE(assemble(leaving(std::vector<uint8_t>(5000, 'x'))));
  EXPECT_THAT(error, StartsWith(left + "it is no ELF file of 64 bits: "));
  EXPECT_FALSE(assemble(leaving(smallCubin(90))));
  EXPECT_EQ(error, left + "it is for sm_90 and not for sm_80");
  std::vector<uint8_t> host = smallCubin(80);
  host[18] = llvm::ELF::EM_X86_64;
  EXPECT_FALSE(assemble(leaving(host)));
  EXPECT_EQ(error, left + "it is for machine 62 and not for CUDA");
  std::vector<uint8_t> other = smallCubin(80);
  std::string_view name = "kvc_k";
  *std::search(other.begin(), other.end(), name.begin(), name.end()) = 'K';
  EXPECT_FALSE(assemble(leaving(other)));
  EXPECT_EQ(error, left + "it has no kernel `kvc_k`");
}

TEST_F(ToolTest, ACubinThatIsCutShortIsNone) {
  std::vector<uint8_t> whole = smallCubin(80);
  EXPECT_EQ(whyNoCubin(whole, kPtx, sm80()), "");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes)
    EXPECT_NE(whyNoCubin(llvm::ArrayRef(whole).take_front(bytes), kPtx, sm80()),
              "")
        << bytes << " bytes";
}

TEST_F(ToolTest, SaysHowTheAssemblerFailed) {
  std::string refuses = "`" + root + "/bin/ptxas` refuses the PTX: ";
  EXPECT_FALSE(assemble("echo 'ptxas fatal: not today'; exit 255"));
  EXPECT_EQ(error, refuses + "exit status 255: ptxas fatal: not today");
  EXPECT_FALSE(assemble("kill -ABRT $$"));
  EXPECT_EQ(error, refuses + "it was ended by signal 6 (Aborted)");
  EXPECT_FALSE(assemble("head -c 300000000 /dev/zero > $5"));
  EXPECT_THAT(error, StartsWith(refuses));
}

} // namespace
