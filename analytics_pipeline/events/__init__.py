"""The event contract: bytes in, Arrow rows and dead letters out; pure, no clients, no clock of its own."""
