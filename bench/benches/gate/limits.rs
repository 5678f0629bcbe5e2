//! What one limit takes, by its algorithm: a public route, so that nothing else is decided.

use criterion::Criterion;
use gate::Decision;
use std::hint::black_box;

use crate::cpu_time::CpuTime;
use crate::scene::{Scene, get};

fn config(limits: &str) -> String {
    format!(r#"{{"version":1,"public":[{{"path_prefix":"/"}}],"limits":[{limits}]}}"#)
}

pub(crate) fn each_algorithm(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("limit");
    let mut run = |name: &str, limits: &str| {
        let mut scene = Scene::new(&config(limits));
        let request = get("/open");
        assert!(matches!(scene.decide(&request), Decision::Pass(_)));
        group.bench_function(name, |b| b.iter(|| scene.decide(black_box(&request))));
    };
    run("none", "");
    for algorithm in ["fixed_window", "sliding_window", "token_bucket"] {
        let limit = format!(
            r#"{{"name":"a","per":"address","algorithm":"{algorithm}","requests":1000000000,"window_seconds":60}}"#
        );
        run(algorithm, &limit);
    }
    group.finish();
}
