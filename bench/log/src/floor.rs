//! The bare device: what no log on this file system can beat.
//!
//! One file, written full with zeros and synced beforehand, so that a write changes data and no
//! metadata; opened with `O_DIRECT`; each write carries `RWF_DSYNC`, so it returns when the device
//! has it. One write at a time, unless said otherwise.

use crate::core::{on_one_core, spin_for};
use crate::offered::{Load, Offered};
use crate::samples::{Clock, Samples, VOLUME_BYTES_MAX};
use serde_json::{Value, json};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

const FILE_BYTES: usize = 64 << 20;
const SMALL_BYTES: usize = 4 << 10;
const LARGE_BYTES: usize = 256 << 10;
const ALIGNMENT: usize = 4096;
const OVERLAPPING: usize = 4;

/// Writes that tell whether the device is at rest, and how far their median may be above the best
/// that was ever seen.
const TRIAL_WRITES: usize = 32;
const AT_REST: f64 = 1.5;
const TRY_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct Floor {
    file: File,
    source: AlignedBytes,
    offset: usize,
    /// The best median of a trial so far.
    best_us: f64,
}

impl Floor {
    /// Makes the file.
    pub(crate) fn prepare(directory: &Path) -> io::Result<Self> {
        let path = directory.join("floor");
        let mut zeros = File::create(&path)?;
        for _ in 0..FILE_BYTES / LARGE_BYTES {
            zeros.write_all(&[0; LARGE_BYTES])?;
        }
        zeros.sync_all()?;
        File::open(directory)?.sync_all()?;
        let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
        let source = AlignedBytes::filled(LARGE_BYTES, 0xe1);
        Ok(Self { file, source, offset: 0, best_us: f64::INFINITY })
    }

    /// Waits until small writes are about as fast as they have been at best, at most `time_max`. A
    /// device that is shared slows down who has used up an allowance, for a while, whoever writes
    /// next. Returns how long it took.
    pub(crate) fn rest(&mut self, time_max: Duration) -> io::Result<Value> {
        let clock = Clock::start();
        loop {
            let mut trial =
                Samples::collect(Duration::MAX, TRIAL_WRITES, || self.write(SMALL_BYTES))?;
            let median_us = trial.percentile_us(50.0);
            self.best_us = self.best_us.min(median_us);
            let slowest_us = trial.percentile_us(90.0);
            let rested = slowest_us < 2.0 * AT_REST * self.best_us;
            if (rested && median_us < AT_REST * self.best_us) || clock.elapsed() >= time_max {
                return Ok(json!({ "waited_s": clock.elapsed().as_secs_f64() }));
            }
            std::thread::park_timeout(TRY_EVERY);
        }
    }

    /// Small writes, one at a time.
    pub(crate) fn single(&mut self, time: Duration) -> io::Result<Value> {
        let mut samples = Samples::collect(time, usize::MAX, || self.write(SMALL_BYTES))?;
        Ok(json!({
            "write_4k_p50_us": samples.percentile_us(50.0),
            "write_4k_p95_us": samples.percentile_us(95.0),
            "write_4k_mean_us": samples.mean_us(),
            "latency_us": samples.distribution(),
        }))
    }

    /// Small writes, four under way at a time, each from a thread of its own.
    pub(crate) fn overlapping(&self, time: Duration) -> io::Result<Value> {
        let clock = Clock::start();
        let lanes: Vec<io::Result<Samples>> = std::thread::scope(|scope| {
            let lane = |lane: usize| {
                let bytes = FILE_BYTES / OVERLAPPING;
                let (begin, mut offset) = (lane * bytes, 0);
                Samples::collect(time, usize::MAX, || {
                    self.write_at(begin + offset, SMALL_BYTES)?;
                    offset = (offset + SMALL_BYTES) % bytes;
                    io::Result::Ok(())
                })
            };
            let threads: Vec<_> =
                (0..OVERLAPPING).map(|index| scope.spawn(move || lane(index))).collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err(io::Error::other("a lane panicked")))
                })
                .collect()
        });
        let seconds = clock.elapsed().as_secs_f64();
        let mut samples = Samples::default();
        for lane in lanes {
            samples.append(lane?);
        }
        Ok(json!({
            "write_4k_qd4_p50_us": samples.percentile_us(50.0),
            "write_4k_qd4_per_s": samples.count() as f64 / seconds,
        }))
    }

    /// Large writes, one at a time.
    pub(crate) fn volume(&mut self, time: Duration) -> io::Result<Value> {
        self.offset = 0;
        let count_max = VOLUME_BYTES_MAX / LARGE_BYTES;
        let samples = Samples::collect(time, count_max, || self.write(LARGE_BYTES))?;
        Ok(json!({ "write_256k_mb_s": samples.per_second() * LARGE_BYTES as f64 / 1e6 }))
    }

    /// A load in an open loop, by the best that a single bare writer can do: whatever has come due
    /// during one write goes out, back to back, as the next.
    pub(crate) fn paced(&mut self, load: &Load) -> io::Result<Samples> {
        on_one_core(|| {
            let mut offered = Offered::start(load);
            while !offered.is_over() {
                let waiting = offered.due() - offered.done();
                if waiting == 0 {
                    spin_for(offered.until(offered.done()));
                    continue;
                }
                let count = waiting.min(LARGE_BYTES / load.bytes);
                self.write((count * load.bytes).next_multiple_of(ALIGNMENT))?;
                offered.complete(offered.done() + count);
            }
            Ok(offered.into_samples())
        })?
    }

    fn write(&mut self, bytes: usize) -> io::Result<()> {
        if self.offset + bytes > FILE_BYTES {
            self.offset = 0;
        }
        self.write_at(self.offset, bytes)?;
        self.offset += bytes;
        Ok(())
    }

    fn write_at(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let part = libc::iovec { iov_base: self.source.base.cast(), iov_len: bytes };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: `part` describes `bytes` initialised bytes of `source`, alive for the call.
        let written = unsafe {
            libc::pwritev2(self.file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_DSYNC)
        };
        match usize::try_from(written) {
            Err(_) => Err(io::Error::last_os_error()),
            Ok(written) if written != bytes => {
                Err(io::Error::other(format!("wrote {written} of {bytes} bytes")))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Block-aligned memory, as direct writes need it.
struct AlignedBytes {
    base: *mut u8,
    layout: Layout,
}

// SAFETY: the memory belongs to this value alone, and nothing writes it once it is filled.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    fn filled(bytes: usize, value: u8) -> Self {
        let layout = Layout::from_size_align(bytes, ALIGNMENT).expect("a size below isize::MAX");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: `base` is the start of `bytes` writable bytes.
        unsafe { base.write_bytes(value, bytes) };
        Self { base, layout }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.base, self.layout) };
    }
}
