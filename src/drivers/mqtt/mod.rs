//! Local MQTT: our own endpoint, or an external broker, and the routes that map topics to devices.
