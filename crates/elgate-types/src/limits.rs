//! Every bound that more than one crate relies on. Sizes in bytes unless the name says otherwise.

/// Longest route name.
pub const ROUTE_NAME_BYTES_MAX: usize = 64;

/// Largest payload of one record. A record this large, its route name and its framing fit in
/// [`RING_RUN_SLOTS_MAX`] consecutive ring slots.
pub const PAYLOAD_BYTES_MAX: usize = 1_000_000;

/// Most records one submission (one ring slot, or one run of slots) may carry.
pub const RECORDS_PER_SUBMISSION_MAX: usize = 4_096;

/// Size of one ring slot, header included.
pub const RING_SLOT_BYTES: usize = 4_096;

/// Size of the whole ring file.
pub const RING_BYTES: usize = 4 * 1024 * 1024;

/// Most consecutive slots one submission may take.
pub const RING_RUN_SLOTS_MAX: usize = 255;

/// Most slots a consumer takes before it turns to its other work.
pub const RING_BATCH_SLOTS_MAX: usize = 64;

/// Most routes one engine serves.
pub const ROUTES_MAX: usize = 1_024;

/// Device block that every log write is aligned to.
pub const BLOCK_BYTES: usize = 4_096;
