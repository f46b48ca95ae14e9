//! One suite for every backend: what `Driver` promises, `uring`, `poll` and `sim` keep alike.
//!
//! `sandbox.rs` runs this whole program again where io_uring is forbidden, and as a user with
//! hardly any locked memory.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod arena;
mod files;
mod lifecycle;
mod sandbox;
mod sockets;
mod waits;
mod world;

/// Makes a test of every case for every backend, and for every way to set up the ring.
macro_rules! suite {
    (@uring $backend:ident $field:ident $value:expr; $($module:ident: $($case:ident),+;)+) => {
        mod $backend {
            use elgate_io::DriverOptions;

            $($(
                #[test]
                fn $case() {
                    let options = DriverOptions { $field: $value, ..crate::world::OPTIONS };
                    if let Some(mut world) = crate::world::World::uring(stringify!($case), &options)
                    {
                        crate::$module::$case(&mut world);
                    }
                }
            )+)+
        }
    };
    ($($module:ident: $($case:ident),+;)+) => {
        suite!(@uring uring commit elgate_io::Commit::Dsync; $($module: $($case),+;)+);
        suite!(@uring uring_link commit elgate_io::Commit::Link; $($module: $($case),+;)+);
        suite!(@uring uring_blocking commit elgate_io::Commit::Blocking; $($module: $($case),+;)+);
        suite!(@uring uring_sqpoll sqpoll true; $($module: $($case),+;)+);
        mod poll {
            $($(
                #[test]
                fn $case() {
                    crate::$module::$case(&mut crate::world::World::poll());
                }
            )+)+
        }
        #[cfg(feature = "tokio-uring")]
        mod tokio_uring {
            $($(
                #[test]
                fn $case() {
                    if let Some(mut world) = crate::world::World::tokio_uring(stringify!($case)) {
                        crate::$module::$case(&mut world);
                    }
                }
            )+)+
        }
        mod sim {
            $($(
                #[test]
                fn $case() {
                    for seed in 0..20 {
                        crate::$module::$case(&mut crate::world::World::sim(seed));
                    }
                }
            )+)+
        }
    };
}

suite! {
    files:
        writes_are_read_back,
        reads_stop_at_the_end,
        durable_writes_and_syncs_complete,
        misaligned_direct_io_is_refused,
        a_full_disk_is_a_completion,
        a_closed_door_is_a_completion,
        appending_ignores_the_offset,
        a_write_that_comes_up_short_says_so,
        the_way_to_commit_can_change_between_writes;
    arena:
        arena_buffers_carry_data_both_ways,
        an_exhausted_arena_lends_from_the_heap,
        arena_buffers_outlive_their_driver,
        a_dropped_driver_gives_its_buffers_back,
        another_drivers_arena_serves_as_well;
    sockets:
        nobody_listening_is_refused,
        accept_and_talk,
        much_data_in_parts,
        peer_close_is_end_of_stream,
        sending_to_a_closed_peer_fails,
        cancelled_socket_operations_return_their_buffers,
        operations_on_the_wrong_kind_of_handle_fail;
    waits:
        timers_end_in_order,
        timers_of_the_past_end_at_once,
        cancelled_timers_end_early,
        futex_mismatch_ends_at_once,
        futex_ends_when_the_word_changes,
        cancelled_futex_wait_ends,
        a_limited_wait_ends,
        a_wake_before_the_wait_is_not_lost;
    lifecycle:
        blocking_calls_answer,
        many_operations_at_once,
        many_timers_at_once,
        tokens_may_repeat,
        cancelling_what_is_unknown_is_harmless,
        a_held_file_stays_locked_until_it_is_released,
        dropping_right_after_cancelling,
        dropping_with_operations_under_way;
}
