"""What ships with the project and was fitted or trained: device cards from measurements, the digits network."""
