// Locks that a child of fork() finds free: fork waits until no other thread holds one, and holds them itself meanwhile.
#pragma once
#include <mutex>

namespace fp16engine {

// In the order in which a thread that holds several takes them.
enum class ForkLock { jobs, tables, memory };

// For a lock that lives as long as the process, before a second thread can take it. `in_child` runs there once the
// locks are free again.
void hold_across_fork(ForkLock order, std::mutex& lock, void (*in_child)() = nullptr);

}  // namespace fp16engine
