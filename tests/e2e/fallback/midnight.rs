//! The end of a day, with the test hooks' clock.

use crate::fixtures::{OPENAI, SceneBuilder, VLLM, assert_served};

const NOON: i64 = 12 * 3600;
const MIDNIGHT: i64 = 24 * 3600;

#[tokio::test]
async fn a_provider_exhausted_at_noon_is_available_at_midnight() {
    let scene = SceneBuilder::new().with(|gate| gate.with_test_hooks()).start().await;
    scene.gate.set_clock(NOON).await;
    scene.exhaust(&VLLM).await;
    assert_served(&scene.ask("").await, &OPENAI);
    // A minute before midnight the budgets are unchanged; a minute after it they are reset.
    scene.gate.set_clock(MIDNIGHT - 60).await;
    assert_served(&scene.ask("").await, &OPENAI);
    scene.gate.set_clock(MIDNIGHT + 60).await;
    assert_served(&scene.ask("").await, &VLLM);
    assert_eq!(scene.charges().await, [VLLM.tokens(), 0, 0], "of the new day");
}

#[tokio::test]
async fn an_attempt_that_begins_before_midnight_is_charged_to_its_day() {
    let scene = SceneBuilder::new().with(|gate| gate.with_test_hooks()).start().await;
    scene.gate.set_clock(MIDNIGHT - 60).await;
    let sent = scene.chat("vllm-local=hang").spawn_send();
    e2e::harness::until("it is on its way", async || (scene.request_counts()[0] == 1).then_some(())).await;
    scene.gate.set_clock(MIDNIGHT + 60).await;
    sent.abort();
    assert_served(&scene.ask("").await, &VLLM);
    assert_eq!(scene.charges().await, [VLLM.tokens(), 0, 0], "the estimate of yesterday's prompt is yesterday's");
}
