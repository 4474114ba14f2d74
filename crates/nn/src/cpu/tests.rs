use super::*;
use tch::{Device, Kind, Tensor};

/// By f64.
fn exact(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let [q, k, v] = [q, k, v].map(|x| x.to_kind(Kind::Double));
    let scores = q.matmul(&k.transpose(2, 3)) / (q.size()[3] as f64).sqrt();
    scores.softmax(-1, Kind::Double).matmul(&v)
}

#[test]
fn quick() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for engine in Engine::ALL {
            for (pixels, tokens, d) in [
                (64, 96, 16),
                (64, 96, 40),
                (100, 77, 40),
                (4, 5, 3),
                (1, 1, 1),
                (130, 300, 80),
                (70, 201, 41),
                (64, 64, 160),
                (33, 100, 512),
            ] {
                let draw = |n: i64| {
                    Tensor::randn([2, n, 3 * d], (Kind::Float, Device::Cpu))
                        .to_kind(kind)
                        .view([2, n, 3, d])
                        .transpose(1, 2)
                };
                let (q, k, v) = (draw(pixels), draw(tokens), draw(tokens));
                let Some(ours) = engine.attention(&q, &k, &v, 2) else { continue };
                let fused = Tensor::scaled_dot_product_attention::<Tensor>(&q, &k, &v, None, 0.0, false, None, false);
                let exact = exact(&q, &k, &v);
                let e = |x: &Tensor| (x.to_kind(Kind::Double) - &exact).abs().max().double_value(&[]);
                eprintln!("{kind:?} {engine:?} {pixels}x{tokens} d={d}: ours {:.2e} aten {:.2e}", e(&ours), e(&fused));
            }
        }
    }
}
