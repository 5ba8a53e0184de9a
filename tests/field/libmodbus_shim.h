/* Put before libmodbus's unit-test-server: where it listens comes from the environment, and its registers hold
 * 10000 + address as all servers of these tests do, so that a value in the wrong place is recognisable. */
#include <modbus.h>
#include <stdlib.h>

static inline modbus_mapping_t *filled(modbus_mapping_t *mapping)
{
    for (int i = 0; mapping && i < mapping->nb_registers; i++)
        mapping->tab_registers[i] = 10000 + mapping->start_registers + i;
    return mapping;
}

#define modbus_new_tcp(host, port) modbus_new_tcp(getenv("SERVER_HOST"), atoi(getenv("SERVER_PORT")))
#define modbus_new_rtu(path, baud, parity, data, stop) modbus_new_rtu(getenv("SERVER_PATH"), baud, parity, data, stop)
#define modbus_mapping_new_start_address(...) filled(modbus_mapping_new_start_address(__VA_ARGS__))
