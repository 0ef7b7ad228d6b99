//! Every operator: the fast path equals the reference, forward and backward; both agree with finite
//! differences through a residual connection; a frozen operand gets no gradient; results do not
//! depend on threads.

mod branches;
mod cases;
mod inputs;
mod laws;
mod run;
