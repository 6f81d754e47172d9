// A disk that fails: preloaded, it counts what a process writes below a folder and refuses the n-th of it.
//
// What counts: opening for writing, write, pwrite, fsync, fdatasync, ftruncate, rename, mkdir, and unlink for
// faults that a full disk does not have. With `sticky` everything after the n-th is refused too.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long seen, nth;
static int number, sticky;

void fault_arm(const char *below, long fail_at, int error, int stays) {
  snprintf(folder, sizeof folder, "%s", below);
  seen = 0, nth = fail_at, number = error, sticky = stays;
}

long fault_seen(void) { return seen; }

static int refused(const char *path) {
  if (!folder[0] || !path || strncmp(path, folder, strlen(folder))) return 0;
  ++seen;
  if (!(seen == nth || (sticky && nth && seen > nth))) return 0;
  errno = number;
  return 1;
}

static int refused_file(int file) {
  char name[64], path[4096];
  if (!folder[0]) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return refused(path);
}

#define REAL(result, name, ...) \
  static result (*real)(__VA_ARGS__); \
  if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, name, const char *, int, ...); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    if (flags & O_CREAT && refused(path)) return -1; \
    return real(path, flags, mode); \
  }

OPEN(open)
OPEN(open64)

ssize_t write(int file, const void *data, size_t size) {
  REAL(ssize_t, write, int, const void *, size_t);
  return refused_file(file) ? -1 : real(file, data, size);
}

#define PWRITE(name) \
  ssize_t name(int file, const void *data, size_t size, off_t at) { \
    REAL(ssize_t, name, int, const void *, size_t, off_t); \
    return refused_file(file) ? -1 : real(file, data, size, at); \
  }

PWRITE(pwrite)
PWRITE(pwrite64)

#define SYNC(name) \
  int name(int file) { \
    REAL(int, name, int); \
    return refused_file(file) ? -1 : real(file); \
  }

SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name) \
  int name(int file, off_t size) { \
    REAL(int, name, int, off_t); \
    return refused_file(file) ? -1 : real(file, size); \
  }

TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  return refused(to) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
  REAL(int, mkdir, const char *, mode_t);
  return refused(path) ? -1 : real(path, mode);
}

int unlink(const char *path) {
  REAL(int, unlink, const char *);
  return number != ENOSPC && refused(path) ? -1 : real(path);
}
