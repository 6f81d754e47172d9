#include "common/fork.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fp16engine {
namespace {

struct Held {
    std::mutex* lock = nullptr;
    void (*in_child)() = nullptr;
};

constexpr int kLocks = 3;
Held held[kLocks];

void lock_all() {
    for (const Held& h : held)
        if (h.lock) h.lock->lock();
}

void unlock_all() {
    for (int i = kLocks; i-- > 0;)
        if (held[i].lock) held[i].lock->unlock();
}

void unlock_all_in_child() {
    unlock_all();
    for (const Held& h : held)
        if (h.in_child) h.in_child();
}

}  // namespace

void hold_across_fork(ForkLock order, std::mutex& lock, void (*in_child)()) {
    held[static_cast<int>(order)] = {&lock, in_child};
#if defined(__unix__) || defined(__APPLE__)
    static const int registered = pthread_atfork(lock_all, unlock_all, unlock_all_in_child);
    (void)registered;
#endif
}

}  // namespace fp16engine
