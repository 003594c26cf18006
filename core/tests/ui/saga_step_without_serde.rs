use composable_rust_core::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Charge,
}

impl LinearSaga for Step {
    const NAME: &'static str = "checkout";
    const STEPS: &'static [Self] = &[Step::Charge];
    type Input = ();
    type Partners = ();
    type Environment = ();

    fn step(self, _: &(), _: &SagaContext<'_, Self>) -> SagaStep<Self> {
        SagaStep::skip()
    }
}

fn main() {}
