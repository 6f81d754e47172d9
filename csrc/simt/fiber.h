// One fiber: a stack and a saved stack pointer. Switching costs a dozen instructions on x86-64 and aarch64, a system
// call elsewhere.
#pragma once
#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) && !defined(__aarch64__)
#define SIMT_UCONTEXT
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

// Sanitizers put red zones into frames, so theirs are larger.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 256 * 1024;
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

class Fiber {
public:
    // Prepares `entry` to run on `stack` (kStackBytes, 16-byte aligned) at the next resume; it must never return.
    void prepare(char* stack, void (*entry)());
    void resume();  // called by the scheduler: runs the fiber until it yields
    void yield();   // called on the fiber: back to the scheduler

private:
#if defined(SIMT_UCONTEXT)
    ucontext_t own_{}, scheduler_{};
#else
    void* own_ = nullptr;
    void* scheduler_ = nullptr;
#endif
    char* stack_ = nullptr;
    const void* scheduler_stack_ = nullptr;
    size_t scheduler_bytes_ = 0;
    void* fake_stack_ = nullptr;

    friend void enter_fiber(Fiber& fiber);
};

// To be called first on a new fiber: tells AddressSanitizer that the switch is complete.
void enter_fiber(Fiber& fiber);

}  // namespace simt
