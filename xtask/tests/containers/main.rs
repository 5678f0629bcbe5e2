//! What containers are made of and started by: `docker-compose.yml`, `Dockerfile`, and their parts.

mod compose;
mod dockerfile;
mod edge;
mod stores;
