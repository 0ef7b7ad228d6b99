//! The calling thread becomes a worker, once. In a program of its own: the pool is one for all
//! tests of a program.

use candle_core::{Device, Tensor};

#[test]
fn the_caller_is_a_worker_of_the_one_pool() {
    assert_eq!(rayon::current_thread_index(), None);
    assert_eq!(pad_ops::join_workers(Some(2)).unwrap(), 2);
    assert_eq!(rayon::current_thread_index(), Some(0));
    let x = Tensor::arange(0f32, 4096. * 64., &Device::Cpu).unwrap().reshape((4096, 64)).unwrap();
    let here = pad_ops::softmax(&x).unwrap().to_vec2::<f32>().unwrap();
    // Another thread still finds a worker while this one waits for it outside the pool.
    let there = std::thread::spawn(move || pad_ops::softmax(&x).unwrap().to_vec2::<f32>().unwrap());
    assert_eq!(there.join().unwrap(), here);
    let again = pad_ops::join_workers(Some(3)).unwrap_err().to_string();
    assert!(again.starts_with("threads: `count` is 3"), "{again}");
}
