/* A disk that fails on demand, for tests: preloaded, it delays or refuses what is done to files below one directory.
 *
 * FIELDGATE_DISK names the directory, FIELDGATE_DISK_ORDERS a file of words and numbers, read before each call:
 * sync_ms, read_ms (delays), sync_eio, write_eio, write_enospc, read_eio (1: fail). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int is_ours(int fd) {
  const char *below = getenv("FIELDGATE_DISK");
  char link[64], path[4096];
  if (!below) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return strncmp(path, below, strlen(below)) == 0 && strstr(path, ".db") != NULL;
}

static long order(const char *name) {
  const char *file = getenv("FIELDGATE_DISK_ORDERS");
  char text[512];
  if (!file) return 0;
  int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  ssize_t n = syscall(SYS_read, fd, text, sizeof text - 1);
  syscall(SYS_close, fd);
  if (n <= 0) return 0;
  text[n] = 0;
  char *at = strstr(text, name);
  return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

static void wait_ms(long ms) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  while (ms > 0 && nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

static int refused(const char *eio, const char *enospc) {
  if (order(eio)) return errno = EIO;
  if (enospc && order(enospc)) return errno = ENOSPC;
  return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define SYNC(name)                       \
  int name(int fd) {                     \
    if (is_ours(fd)) {                   \
      wait_ms(order("sync_ms"));         \
      if (refused("sync_eio", NULL)) return -1; \
    }                                    \
    return REAL(name)(fd);               \
  }
SYNC(fsync)
SYNC(fdatasync)

ssize_t write(int fd, const void *from, size_t n) {
  if (is_ours(fd) && refused("write_eio", "write_enospc")) return -1;
  return REAL(write)(fd, from, n);
}

ssize_t read(int fd, void *into, size_t n) {
  if (is_ours(fd)) {
    wait_ms(order("read_ms"));
    if (refused("read_eio", NULL)) return -1;
  }
  return REAL(read)(fd, into, n);
}

#define AT(name, off)                                              \
  ssize_t p##write##name(int fd, const void *from, size_t n, off at) { \
    if (is_ours(fd) && refused("write_eio", "write_enospc")) return -1; \
    return REAL(p##write##name)(fd, from, n, at);                  \
  }                                                                \
  ssize_t p##read##name(int fd, void *into, size_t n, off at) {    \
    if (is_ours(fd)) {                                             \
      wait_ms(order("read_ms"));                                   \
      if (refused("read_eio", NULL)) return -1;                    \
    }                                                              \
    return REAL(p##read##name)(fd, into, n, at);                   \
  }
AT(, off_t)
AT(64, off64_t)
