#include "simt/fiber.h"

namespace simt {

#if defined(__x86_64__)
extern "C" void simt_switch(void** save, void* load);
asm(R"(.text
.globl simt_switch
.hidden simt_switch
.type simt_switch,@function
simt_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp,(%rdi)
    mov %rsi,%rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size simt_switch,.-simt_switch
)");
constexpr int kSavedWords = 6;
#elif defined(__aarch64__)
extern "C" void simt_switch(void** save, void* load);
asm(R"(.text
.globl simt_switch
.hidden simt_switch
.type simt_switch,%function
simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size simt_switch,.-simt_switch
)");
constexpr int kSavedWords = 20, kReturnAddress = 11;
#endif

void Fiber::prepare(char* stack, void (*entry)()) {
    stack_ = stack;
    fake_stack_ = nullptr;
#if defined(SIMT_UCONTEXT)
    getcontext(&own_);
    own_.uc_stack.ss_sp = stack;
    own_.uc_stack.ss_size = kStackBytes;
    own_.uc_link = nullptr;
    makecontext(&own_, entry, 0);
#else
    auto** top = reinterpret_cast<void**>(stack + kStackBytes) - 2;
#if defined(__x86_64__)
    *--top = nullptr;  // where a return address would be: the entry starts with the stack aligned as after a call
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < kSavedWords; i++) *--top = nullptr;
#else
    top -= kSavedWords;
    for (int i = 0; i < kSavedWords; i++) top[i] = nullptr;
    top[kReturnAddress] = reinterpret_cast<void*>(entry);
#endif
    own_ = top;
#endif
}

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
    void* scheduler_fake = nullptr;
    __sanitizer_start_switch_fiber(&scheduler_fake, stack_, kStackBytes);
#endif
#if defined(SIMT_UCONTEXT)
    swapcontext(&scheduler_, &own_);
#else
    simt_switch(&scheduler_, own_);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

void Fiber::yield() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_stack_, scheduler_stack_, scheduler_bytes_);
#endif
#if defined(SIMT_UCONTEXT)
    swapcontext(&own_, &scheduler_);
#else
    simt_switch(&own_, scheduler_);
#endif
    enter_fiber(*this);
}

void enter_fiber(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake_stack_, &fiber.scheduler_stack_, &fiber.scheduler_bytes_);
#else
    (void)fiber;
#endif
}

}  // namespace simt
