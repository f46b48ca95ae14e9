//! What recovery has cut does not come back, however the log goes on behind it.

mod support;

use elgate_log::LogOptions;
use elgate_types::Lsn;
use support::{Found, Rig, batches, lose_process, patch, small};

#[test]
fn a_batch_behind_a_torn_one_is_gone_for_good() {
    let options = LogOptions { small_writes_in_flight_max: 2, ..small() };
    let mut rig = Rig::new(options.clone());
    rig.commit(10);
    // Two writes at once: the second states nothing of the first.
    for _ in 0..2 {
        rig.append(10).expect("taken");
        rig.submit();
    }
    rig.until_durable(Lsn(3));
    let segment = rig.segments()[0].clone();
    let world = rig.world.clone();
    drop(rig);
    lose_process(&world);
    let (second, ..) = batches(&world, &segment)[1];
    patch(&world, &segment, second, &[0; 4_096]);
    world.platform().remove("/data/orders/head".as_ref()).expect("removes");

    let mut rig = Rig::open(world, options.clone());
    assert_eq!((rig.recovery.next_lsn, rig.recovery.torn_bytes), (Lsn(2), 2 * 4_096));
    rig.commit(20);
    let rig = rig.crash(false, options);
    assert_eq!(rig.recovery.next_lsn, Lsn(3), "the record that was cut has not come back");
    assert_eq!(rig.read(), [Found::Records(1, 2)]);
}

/// The test above fails when the epoch does not rise and nothing is cut.
#[cfg(feature = "seeded-bugs")]
#[test]
fn it_would_be_noticed() {
    let output = std::process::Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "a_batch_behind_a_torn_one_is_gone_for_good"])
        .env("ELGATE_SEEDED_BUG", "forget-epoch-and-torn-tail")
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("has not come back"), "{said}");
}
