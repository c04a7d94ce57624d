#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace fanin {

namespace {

constexpr auto question_interval = std::chrono::milliseconds(100);

struct Job {
    uint64_t chunks;
    const std::function<void(uint64_t)> &work;
    std::atomic<uint64_t> next{0};
    std::atomic<bool> stop{false};

    // Does one chunk; false when none is left.
    bool step() {
        if (stop.load(std::memory_order_relaxed)) return false;
        const uint64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
        if (chunk >= chunks) return false;
        work(chunk);
        return true;
    }
};

// The calling thread's share of a job.
void work_and_ask(Job &job, const std::function<bool()> &interrupted) {
    auto asked = std::chrono::steady_clock::now();
    while (job.step()) {
        const auto now = std::chrono::steady_clock::now();
        if (now - asked < question_interval) continue;
        asked = now;
        if (interrupted()) job.stop = true;
    }
}

class Pool {
public:
    // Only one thread may hold the pool; another caller then works alone.
    std::mutex holder;

    void run(Job &job, int helpers, const std::function<bool()> &interrupted) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            grow(helpers);
            job_ = &job;
            wanted_ = helpers < count_ ? helpers : count_;
        }
        wake_.notify_all();
        work_and_ask(job, interrupted);
        std::unique_lock<std::mutex> lock(mutex_);
        // Helpers that have not begun by now need not: all chunks are taken.
        job_ = nullptr;
        wanted_ = 0;
        idle_.wait(lock, [this] { return busy_ == 0; });
    }

private:
    void grow(int helpers) {
        if (count_ >= helpers) return;
        // Signals are the program's: none may be delivered to a helper.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            for (; count_ < helpers; count_++) std::thread([this] { help(); }).detach();
        } catch (const std::system_error &) {
            // The system gives no more threads: those there are do the work.
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    void help() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return wanted_ > 0; });
            wanted_--;
            busy_++;
            Job &job = *job_;
            lock.unlock();
            while (job.step()) {
            }
            lock.lock();
            if (--busy_ == 0) idle_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    Job *job_ = nullptr;
    int count_ = 0, wanted_ = 0, busy_ = 0;
};

// The pool of this process.  It is never destroyed: its threads sleep until the process ends.
// A child after fork has none of the threads, so it begins with a pool of its own; what the
// parent's pool held is left alone, for its locks may be taken.
Pool &pool() {
    struct Owned {
        pid_t owner;
        Pool pool;
    };
    static std::atomic<Owned *> current{nullptr};
    Owned *found = current.load(std::memory_order_acquire);
    const pid_t here = getpid();
    while (found == nullptr || found->owner != here) {
        auto *made = new Owned{here, {}};
        if (current.compare_exchange_strong(found, made, std::memory_order_acq_rel)) {
            return made->pool;
        }
        delete made;  // Another thread was first, and `found` is now its pool.
    }
    return found->pool;
}

}  // namespace

bool run_chunks(uint64_t chunks, int threads, const std::function<void(uint64_t)> &work,
                const std::function<bool()> &interrupted) {
    Job job{chunks, work};
    const uint64_t useful = chunks < (uint64_t)threads ? chunks : (uint64_t)threads;
    if (useful > 1) {
        Pool &shared = pool();
        const std::unique_lock<std::mutex> hold(shared.holder, std::try_to_lock);
        if (hold.owns_lock()) {
            shared.run(job, (int)useful - 1, interrupted);
            return !job.stop;
        }
    }
    work_and_ask(job, interrupted);
    return !job.stop;
}

}  // namespace fanin
