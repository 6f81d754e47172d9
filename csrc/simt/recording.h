// The simulator's stream capture: while a recording is open, work is put down in order instead of being done, as on a
// GPU, and a replay does it again on the same memory.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace simt {

class Recording {
public:
    // kernel: counted among the graph's nodes; the rest is the simulator's own, such as poisoning.
    void add(const char* name, bool kernel, std::function<void()> work);
    void keep(std::shared_ptr<void> memory) { kept_.push_back(std::move(memory)); }
    void replay() const;
    size_t kernels() const { return names_.size(); }
    const std::vector<std::string>& names() const { return names_; }

private:
    std::vector<std::function<void()>> work_;
    std::vector<std::string> names_;
    std::vector<std::shared_ptr<void>> kept_;
};

// The recording that is open, or none. One at a time: there is one stream.
Recording* recording();
void begin_recording();
std::shared_ptr<Recording> end_recording();

// Does the work, or puts it down.
void perform(const char* name, bool kernel, std::function<void()> work);

}  // namespace simt
