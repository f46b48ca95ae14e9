//! The client over connections, through a driver: once in the simulator's virtual time, once over
//! TCP of this machine with a far end of plain blocking threads.

mod far_end;
mod scenarios;
mod sim_far_end;
mod sim_world;
mod tcp_far_end;
mod tcp_world;
mod world;
