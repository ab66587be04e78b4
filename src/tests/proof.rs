//! The tools that prove what is promised, as an operator runs them.

use crate::program::nova;

/// What a command of the program says, and whether it ended well.
async fn says(arguments: &'static [&'static str]) -> (bool, String) {
    let output = tokio::task::spawn_blocking(move || nova(arguments).output().expect("runs"));
    let output = output.await.expect("no panic");
    let mut said = String::from_utf8(output.stdout).expect("text");
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

#[actix_rt::test]
async fn the_swarm_measures_nodes_of_its_own_and_counts_what_is_lost() {
    let (is_good, said) = says(&[
        "bench",
        "chat",
        "fanout",
        "across",
        "--sockets",
        "20",
        "--rate",
        "40",
        "--conversations",
        "2",
        "--seconds",
        "1",
    ])
    .await;
    assert!(is_good, "{said}");
    // 40 messages to the ten sockets of either conversation; 40 to the two of a pair on different nodes.
    assert!(said.contains("deliveries: 400 in "), "{said}");
    let nothing = "0 lost, 0 repeated, 0 left out, 0 sockets ended";
    assert_eq!(said.matches(nothing).count(), 2, "{said}");
}

#[actix_rt::test]
async fn nodes_that_are_tortured_lose_and_repeat_nothing() {
    let (is_good, said) =
        says(&["torture", "chat", "--seed", "7", "--seconds", "10", "--harm", "kill,cut,stampede"]).await;
    assert!(is_good, "{said}");
    assert!(said.contains("seed 7\n0 faults in "), "{said}");
}

#[actix_rt::test]
async fn redis_flushed_and_stopped_under_load_leaves_no_silent_gap_on_any_socket() {
    let (is_good, said) =
        says(&["torture", "chat", "--seed", "5", "--seconds", "6", "--harm", "flush,redis,cut"]).await;
    assert!(is_good, "{said}");
    assert!(said.contains("seed 5\n0 faults in "), "{said}");
    assert!(said.contains(" × flush") && said.contains(" × redis"), "{said}");
}

#[actix_rt::test]
async fn a_rolling_restart_of_two_nodes_under_load_loses_and_repeats_nothing() {
    let (is_good, said) =
        says(&["torture", "chat", "--seed", "3", "--seconds", "1", "--harm", "rolling"]).await;
    assert!(is_good, "{said}");
    assert!(said.contains("seed 3\n0 faults in "), "{said}");
    assert!(said.contains(" × rolling"), "{said}");
}

#[actix_rt::test]
async fn the_event_log_is_measured_and_has_every_event() {
    let (is_good, said) =
        says(&["bench", "events", "log", "replay", "--seconds", "1", "--writers", "2"]).await;
    assert!(is_good, "{said}");
    let nothing = ["events without a place: 0", "replay: events left out: 0", "event: events left out: 0"];
    assert!(nothing.iter().all(|line| said.contains(line)), "{said}");
}
