//! Seeded random numbers and small dense linear algebra.
//!
//! - [`SplitMix64`] is the one random number generator of the workspace; [`hash`] gives random
//!   access to such numbers.
//! - [`Cholesky`] solves symmetric positive definite systems.
//! - [`eigen_symmetric`] decomposes symmetric matrices; [`SquareMatrix`] is a matrix whose size is
//!   known at compile time, with [`product`], [`inverse`] and [`eigen`].
//!
//! Matrices have up to a few hundred rows and hold `f64`. All results are deterministic.
//!
//! ```
//! use numerics::Cholesky;
//! let factor = Cholesky::new(vec![4.0, 2.0, 2.0, 3.0], 2).expect("positive definite");
//! let mut x = [2.0, 5.0];
//! factor.solve(&mut x);
//! assert!((x[0] + 0.5).abs() < 1e-12 && (x[1] - 2.0).abs() < 1e-12);
//! ```

mod cholesky;
mod eigen;
mod random;
mod square;

pub use cholesky::Cholesky;
pub use eigen::eigen_symmetric;
pub use random::{SplitMix64, hash};
pub use square::{SquareMatrix, eigen, inverse, product, zero};
