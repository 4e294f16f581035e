/* A double of libnvidia-ml.so.1: NVML's symbols over a text file that lies beside the library, named like it with
 * ".txt" at its end. No NVIDIA code and no device is involved. Each line is "key value"; keys are "init", "count",
 * "driver", "cuda_driver", "nvml", and "DEVICE.field" or "DEVICE/INSTANCE.field". A value "!N" is NVML's error N,
 * "!hang" never returns, "!no_symbol" cannot be had here (a missing line is "Not Supported"). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, UNKNOWN = 999 };

static int look_up(const char *key, char *value, size_t size)
{
    Dl_info own;
    char path[4096], line[1024];
    size_t length = strlen(key);
    if (!dladdr((void *)look_up, &own) || snprintf(path, sizeof path, "%s.txt", own.dli_fname) >= (int)sizeof path)
        return UNKNOWN;
    FILE *file = fopen(path, "r");
    if (!file)
        return UNKNOWN;
    int found = NOT_SUPPORTED;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, key, length) && line[length] == ' ') {
            snprintf(value, size, "%s", line + length + 1);
            found = 0;
        }
    }
    fclose(file);
    if (found == 0 && !strcmp(value, "!hang"))
        for (;;)
            pause();
    return found == 0 && value[0] == '!' ? atoi(value + 1) : found;
}

/* A handle is the device's number plus one, and above that the instance's number plus one. */
static int device_field(void *handle, const char *field, char *value, size_t size)
{
    unsigned long number = (unsigned long)handle;
    unsigned long device = (number & 0xff) - 1, instance = number >> 8;
    char key[128];
    if (instance)
        snprintf(key, sizeof key, "%lu/%lu.%s", device, instance - 1, field);
    else
        snprintf(key, sizeof key, "%lu.%s", device, field);
    return look_up(key, value, size);
}

static int text(int error, const char *value, char *into, unsigned size)
{
    if (!error)
        snprintf(into, size, "%s", value);
    return error;
}

static int numbers(void *handle, const char *field, int count, unsigned **into)
{
    char value[256], *rest = value;
    int error = device_field(handle, field, value, sizeof value);
    for (int i = 0; !error && i < count; i++)
        *into[i] = (unsigned)strtoul(rest, &rest, 10);
    return error;
}

int nvmlInitWithFlags(unsigned flags)
{
    char value[64];
    (void)flags;
    int error = look_up("init", value, sizeof value);
    return error == NOT_SUPPORTED ? 0 : error;
}

int nvmlShutdown(void) { return 0; }

const char *nvmlErrorString(int error) { return error == NOT_SUPPORTED ? "Not Supported" : "Another Error"; }

int nvmlSystemGetDriverVersion(char *into, unsigned size)
{
    char value[256];
    return text(look_up("driver", value, sizeof value), value, into, size);
}

int nvmlSystemGetNVMLVersion(char *into, unsigned size)
{
    char value[256];
    return text(look_up("nvml", value, sizeof value), value, into, size);
}

int nvmlSystemGetCudaDriverVersion(int *into)
{
    char value[64];
    int error = look_up("cuda_driver", value, sizeof value);
    *into = error ? 0 : atoi(value);
    return error;
}

int nvmlSystemGetProcessName(unsigned pid, char *into, unsigned size)
{
    char key[64], value[256];
    snprintf(key, sizeof key, "process.%u", pid);
    int error = look_up(key, value, sizeof value);
    return text(error == NOT_SUPPORTED ? NOT_FOUND : error, value, into, size);
}

int nvmlDeviceGetCount_v2(unsigned *into)
{
    char value[64];
    int error = look_up("count", value, sizeof value);
    *into = error ? 0 : (unsigned)atoi(value);
    return error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    char value[64];
    *handle = (void *)(unsigned long)(index + 1);
    int error = device_field(*handle, "handle", value, sizeof value);
    return error == NOT_SUPPORTED ? 0 : error;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *parent, unsigned index, void **handle)
{
    char value[256];
    *handle = (void *)((unsigned long)parent | (unsigned long)(index + 1) << 8);
    int error = device_field(*handle, "handle", value, sizeof value);
    if (error != NOT_SUPPORTED)
        return error;
    return device_field(*handle, "uuid", value, sizeof value) == NOT_SUPPORTED ? NOT_FOUND : 0;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *into)
{
    (void)handle;
    *into = 7;
    return 0;
}

int nvmlDeviceGetUUID(void *handle, char *into, unsigned size)
{
    char value[256];
    return text(device_field(handle, "uuid", value, sizeof value), value, into, size);
}

int nvmlDeviceGetName(void *handle, char *into, unsigned size)
{
    char value[256];
    return text(device_field(handle, "name", value, sizeof value), value, into, size);
}

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory)
{
    char value[256], *rest = value;
    int error = device_field(handle, "memory_mib", value, sizeof value);
    if (!error) {
        memory[0] = strtoull(rest, &rest, 10) << 20;
        memory[1] = strtoull(rest, &rest, 10) << 20;
        memory[2] = memory[0] - memory[1];
    }
    return error;
}

struct pci { char legacy[16]; unsigned domain, bus, device, identifier, subsystem; char bus_id[32]; };

int nvmlDeviceGetPciInfo_v3(void *handle, struct pci *into)
{
    char value[256];
    memset(into, 0, sizeof *into);
    return text(device_field(handle, "pci", value, sizeof value), value, into->bus_id, sizeof into->bus_id);
}

#define PAIR(name, field) \
    int name(void *handle, unsigned *one, unsigned *two) { return numbers(handle, field, 2, (unsigned *[]){one, two}); }
#define SINGLE(name, field) \
    int name(void *handle, unsigned *one) { return numbers(handle, field, 1, (unsigned *[]){one}); }

PAIR(nvmlDeviceGetCudaComputeCapability, "capability")
PAIR(nvmlDeviceGetMigMode, "mig_mode")
PAIR(nvmlDeviceGetEccMode, "ecc_mode")
SINGLE(nvmlDeviceGetMinorNumber, "minor")
SINGLE(nvmlDeviceGetComputeMode, "compute_mode")
SINGLE(nvmlDeviceGetPersistenceMode, "persistence")
SINGLE(nvmlDeviceGetRetiredPagesPendingStatus, "retired_pending")
SINGLE(nvmlDeviceGetPowerUsage, "power")
SINGLE(nvmlDeviceGetGpuInstanceId, "gpu_instance")
SINGLE(nvmlDeviceGetComputeInstanceId, "compute_instance")

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *into)
{
    (void)sensor;
    return numbers(handle, "temperature", 1, (unsigned *[]){into});
}

int nvmlDeviceGetTotalEccErrors(void *handle, unsigned kind, unsigned counter, unsigned long long *into)
{
    char value[64];
    int error = kind == 1 ? device_field(handle, counter ? "ecc_aggregate" : "ecc_volatile", value, sizeof value) : 2;
    *into = error ? 0 : strtoull(value, NULL, 10);
    return error;
}

int nvmlDeviceGetRemappedRows(void *handle, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failed)
{
    return numbers(handle, "remapped_rows", 4, (unsigned *[]){corrected, uncorrected, pending, failed});
}

struct field { unsigned identifier, scope; long long time, latency; unsigned type, result; unsigned long long value; };

int nvmlDeviceGetFieldValues(void *handle, int count, struct field *fields)
{
    for (int i = 0; i < count; i++) {
        unsigned value = 0;
        fields[i].result = (unsigned)(fields[i].identifier == 230
            ? numbers(handle, "recovery_action", 1, (unsigned *[]){&value}) : NOT_SUPPORTED);
        fields[i].value = value;
    }
    return 0;
}

struct attributes { unsigned processors, engines[5], gpu_slices, compute_slices; unsigned long long memory_mb; };

int nvmlDeviceGetAttributes_v2(void *handle, struct attributes *into)
{
    unsigned memory = 0;
    memset(into, 0, sizeof *into);
    int error = numbers(handle, "attributes", 3, (unsigned *[]){&into->gpu_slices, &into->compute_slices, &memory});
    into->memory_mb = memory;
    return error;
}

struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

/* "pid:MiB pid:MiB" */
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process *processes)
{
    char value[512], *rest = NULL;
    unsigned found = 0;
    int error = device_field(handle, "processes", value, sizeof value);
    if (error)
        return error;
    for (char *word = strtok_r(value, " ", &rest); word; word = strtok_r(NULL, " ", &rest), found++) {
        if (processes && found < *count) {
            char *memory = strchr(word, ':');
            processes[found] = (struct process){(unsigned)atoi(word), 0, 0xffffffff, 0xffffffff};
            processes[found].memory = memory ? strtoull(memory + 1, NULL, 10) << 20 : ~0ULL;
        }
    }
    error = found && (!processes || found > *count) ? TOO_SMALL : 0;
    *count = found;
    return error;
}
