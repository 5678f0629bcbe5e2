//! What containers are made of and started by: `docker-compose.yml`, `Dockerfile`, and their parts.

#[cfg(test)]
mod compose;
#[cfg(test)]
mod dockerfile;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod stores;
