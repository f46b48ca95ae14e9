//! Submissions set aside by a consumer that died: whatever it left half done, the next one takes each
//! once.

mod common;

use common::{
    Fixture, aside_file, entries, finish, pop_all, read_u64, route, set_aside, try_pop, write_u64,
};
use elgate_ring::LeftOver;

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

#[test]
fn what_is_in_both_places_is_taken_once_though_it_is_finished_before_its_slot_is_met() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    // The first keeps its slot, and so do all behind it until it is finished.
    producer.submit(&route("slow"), 0, &[b"x"]).expect("room");
    for op_id in 1..=200 {
        producer.submit(&route("stuck"), op_id, &[b"x"]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken[1..]);
    assert_eq!(consumer.used_slots(), 201);
    drop(consumer);
    let mut consumer = fixture.consumer();
    let mut seen = Vec::new();
    while consumer.used_slots() > 0 || consumer.stats().set_aside > 0 {
        // A log that is fast again: everything is finished before the next look.
        let some = try_pop(&mut consumer, 64).expect("sound");
        finish(&mut consumer, &some);
        seen.extend(some.iter().map(|one| one.op_id));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..=200).collect::<Vec<u64>>());
    let mut arrived = Vec::new();
    producer.completions().expect("the first").drain(&mut arrived);
    assert_eq!(arrived.len(), 201, "its producer hears of each, once");
}

#[test]
fn what_is_in_both_places_is_not_salvaged_from_a_ring_that_is_given_up() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    producer.submit(&route("slow"), 0, &[b"x"]).expect("room");
    for op_id in 1..=3 {
        producer.submit(&route("stuck"), op_id, &[b"x"]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken[1..]);
    drop(consumer);
    // Killed while it gave the ring up, or somebody scribbled over it.
    write_u64(&fixture.file(), 0x28, 1);
    let mut consumer = fixture.consumer();
    let mut seen: Vec<u64> =
        try_pop(&mut consumer, 64).expect("what is aside").iter().map(|one| one.op_id).collect();
    assert_eq!(seen, [1, 2, 3]);
    consumer.replace().expect("there is room");
    seen.extend(pop_all(&mut consumer).iter().map(|one| one.op_id));
    assert_eq!(seen, [1, 2, 3, 0]);
}

#[test]
fn an_entry_that_comes_twice_is_taken_once() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..3 {
        producer.submit(&route("stuck"), op_id, &[b"same length"]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    drop(consumer);
    let file = aside_file(&fixture);
    let at = entries(&file);
    for word in (0..at[1] - at[0]).step_by(8) {
        write_u64(&file, at[1] + word, read_u64(&file, at[0] + word));
    }
    let mut consumer = fixture.consumer();
    assert_eq!(pop_all(&mut consumer), [taken[0].clone(), taken[2].clone()]);
    assert_eq!(consumer.stats().corrupt, 1);
}

#[test]
fn files_that_a_killed_consumer_was_making_do_not_pile_up() {
    let fixture = Fixture::new();
    drop(fixture.consumer());
    std::fs::write(fixture.directory.path().join("ring.aside.new"), [0; 4_096]).expect("written");
    let _consumer = fixture.consumer();
    assert_eq!(fixture.names(), ["ring"]);
}

#[test]
fn a_file_whose_name_is_gone_gets_it_back() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    producer.submit(&route("stuck"), 1, &[b"kept"]).expect("room");
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    std::fs::remove_file(fixture.directory.path().join("ring.aside")).expect("somebody does");
    consumer.recover_dead();
    drop(consumer);
    let mut consumer = fixture.consumer();
    assert_eq!(pop_all(&mut consumer), taken);
}

#[test]
fn what_was_taken_from_a_ring_that_is_given_up_survives_its_consumer() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let ring_id = consumer.ring_id();
    let producer = fixture.producer();
    producer.submit(&route("stuck"), 1, &[b"kept"]).expect("room");
    let taken = pop_all(&mut consumer);
    write_u64(&fixture.file(), 0x28, 1);
    consumer.recover_dead();
    consumer.replace().expect("there is room");
    drop(consumer);
    let mut consumer = fixture.consumer();
    let mut seen = Vec::new();
    consumer.pop(64, &mut |one| seen.push((one.ring_id, one.position, one.op_id))).expect("sound");
    assert_eq!(seen, [(ring_id, taken[0].position, 1)]);
}

#[test]
fn what_is_left_over_is_told_before_and_after_it_is_taken() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for (op_id, name) in ["a", "b", "a", "b", "c"].into_iter().enumerate() {
        producer.submit(&route(name), op_id as u64, &[&[7; 9_000]]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    // The first of b and the second of a are aside; what is done is in the ring all the same.
    set_aside(&mut consumer, &taken[1..3]);
    finish(&mut consumer, &taken[..1]);
    finish(&mut consumer, &taken[4..]);
    let ring = consumer.ring_id();
    let mut before = LeftOver::new();
    consumer.left_over(&mut before);
    drop(consumer);
    let mut consumer = fixture.consumer();
    let mut found = LeftOver::new();
    consumer.left_over(&mut found);
    assert_eq!(before, found);
    let lowest = |index: usize| [(ring, taken[index].position)].into();
    let expected = [("a", 2), ("b", 1), ("c", 4)];
    assert_eq!(found, expected.map(|(name, at)| (name.to_owned(), lowest(at))).into());
    let mut again = LeftOver::new();
    for one in pop_all(&mut consumer) {
        again.entry(one.route.clone()).or_default().entry(ring).or_insert(one.position);
    }
    assert_eq!(again, found, "and that is what is handed over");
}
