/* SPDX-License-Identifier: LGPL-3.0-or-later
   Counts, beneath a Python that it is preloaded into, memory that is asked for and threads that are
   begun while the calling thread does not hold Python's lock: by compiled code, that is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

int PyGILState_Check(void) __attribute__((weak));

static atomic_long memories, threads;
static atomic_int is_on;

long count_memories(void) { return memories; }
long count_threads(void) { return threads; }
void count_from_now_on(void) { is_on = 1; }

static void note(void) {
  if (is_on && PyGILState_Check && !PyGILState_Check()) ++memories;
}

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) {
  note();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  note();
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  note();
  return __libc_realloc(memory, size);
}
void* memalign(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** memory, size_t alignment, size_t size) {
  *memory = memalign(alignment, size);
  return *memory ? 0 : 12;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                   void* argument) {
  int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) =
      dlsym(RTLD_NEXT, "pthread_create");
  if (is_on) ++threads;
  return real(thread, attributes, run, argument);
}
