//! Submissions set aside by a consumer that died: whatever it left half done, the next one takes each
//! once.

mod common;

use common::{Fixture, aside_file, entries, pop_all, route, set_aside, write_u64};

#[test]
fn what_was_being_written_when_a_consumer_died_spoils_nothing_that_comes_in_its_place() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    producer.submit(&route("stuck"), 1, &[b"keeps the file"]).expect("room");
    let long = vec![0xff; 3_000];
    producer.submit(&route("stuck"), 2, &[&long]).expect("room");
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    drop(consumer);
    // As if it had been killed before the entry's last step: the file is as that leaves it.
    let file = aside_file(&fixture);
    let second = entries(&file)[1];
    write_u64(&file, second, 0);
    let mut consumer = fixture.consumer();
    assert_eq!(pop_all(&mut consumer), taken[..1]);
    // Shorter ones come in its place, of every length.
    let mut expected = taken[..1].to_vec();
    for op_id in 3..11 {
        producer.submit(&route("stuck"), op_id, &[&vec![1; op_id as usize]]).expect("room");
        let more = pop_all(&mut consumer);
        set_aside(&mut consumer, &more);
        expected.extend(more);
    }
    assert_eq!(consumer.used_slots(), 0);
    drop(consumer);
    let mut consumer = fixture.consumer();
    assert_eq!(consumer.stats().corrupt, 0);
    assert_eq!(pop_all(&mut consumer), expected);
}
