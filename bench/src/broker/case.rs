//! The cases by name, the same on all brokers: scripts rely on these names.

use std::marker::PhantomData;

use futures_util::future::FutureExt as _;

use super::{
    consume, latency, publish,
    way::{Bare, Load},
};
use crate::case::Case;

/// The cases with this client for a baseline.
#[derive(Debug)]
pub(crate) struct Cases<B>(PhantomData<B>);

impl<B: Bare> Cases<B> {
    /// All of them, in the order in which they run.
    pub(crate) const ALL: &'static [Case] = &[
        Case {
            name: "publish-64",
            unit: "messages/s",
            baseline: B::PUBLISH,
            run: |s| publish::run::<B>(s, Load::Many).boxed_local(),
        },
        Case {
            name: "publish-1",
            unit: "messages/s",
            baseline: B::PUBLISH,
            run: |s| publish::run::<B>(s, Load::One).boxed_local(),
        },
        Case {
            name: "publish-batch",
            unit: "messages/s",
            baseline: B::BATCH,
            run: |s| publish::run::<B>(s, Load::Batch).boxed_local(),
        },
        Case {
            name: "consume",
            unit: "messages/s",
            baseline: B::CONSUME,
            run: |s| consume::run::<B>(s).boxed_local(),
        },
        Case {
            name: "latency-p99",
            unit: "ms",
            baseline: B::CONSUME,
            run: |s| latency::run::<B>(s).boxed_local(),
        },
        Case {
            name: "cpu-publish",
            unit: "s/100,000",
            baseline: B::PUBLISH,
            run: |s| async { Ok(publish::run::<B>(s, Load::Many).await?.by_cpu()) }.boxed_local(),
        },
        Case {
            name: "cpu-consume",
            unit: "s/100,000",
            baseline: B::CONSUME,
            run: |s| async { Ok(consume::run::<B>(s).await?.by_cpu()) }.boxed_local(),
        },
    ];
}
