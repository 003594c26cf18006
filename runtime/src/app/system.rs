//! The clock, ids and random numbers of a production process.

use std::time::{Duration, SystemTime};

use composable_rust_core::Timestamp;
use composable_rust_core::environment::{Clock, IdGenerator, Rng};
use futures_util::future::BoxFuture;
use uuid::Uuid;

/// The system's clock, and tokio's timers.
///
/// On Linux, the monotonic time includes the time for which the machine is suspended
/// (`CLOCK_BOOTTIME`), so a virtual machine that is paused and resumed starts no work under leases
/// that expired meanwhile. Elsewhere it is the time of [`std::time::Instant`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    #[cfg(target_os = "linux")]
    fn monotonic(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::try_from(time).unwrap_or_default()
    }

    #[cfg(not(target_os = "linux"))]
    fn monotonic(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Version 7 UUIDs: unique, and in order of time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl IdGenerator for SystemIds {
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// The thread's random generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// `/proc/uptime` counts suspended time, `Instant` does not.
    #[test]
    fn monotonic_time_counts_suspended_time() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap()
        };
        let (before, time, after) = (uptime(), SystemClock.monotonic().as_secs_f64(), uptime());
        assert!(before - 0.1 <= time && time <= after + 0.1, "{before} {time} {after}");
    }
}
