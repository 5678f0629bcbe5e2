//! What the crate promises, seen from outside; the same tests run natively and in Node.

#[cfg(test)]
mod chance;
#[cfg(test)]
mod generation;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod random;
#[cfg(test)]
mod report;
#[cfg(test)]
mod typos;
#[cfg(test)]
mod weak_patterns;
