/* A double of libcuda.so.1 and libcublas.so.12: the symbols by which a matrix product is made, computed on the
 * processor in its memory. No NVIDIA code and no device is involved. A text file beside the library, named like it with
 * ".txt" at its end, says how it behaves: "right", "wrong", "none" (there is no device), or "fail CALL NUMBER". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *behaviour(void)
{
    static char text[256];
    Dl_info own;
    char path[4096];
    if (text[0] || !dladdr((void *)behaviour, &own))
        return text;
    snprintf(path, sizeof path, "%s.txt", own.dli_fname);
    FILE *file = fopen(path, "r");
    if (file) {
        if (!fgets(text, sizeof text, file))
            text[0] = 0;
        fclose(file);
    }
    return text;
}

static int answer(const char *call)
{
    char failing[128];
    int number;
    if (sscanf(behaviour(), "fail %127s %d", failing, &number) == 2 && !strcmp(failing, call))
        return number;
    return 0;
}

int cuInit(unsigned flags) { return flags ? 1 : answer("cuInit"); }

int cuDeviceGetCount(int *count)
{
    *count = strncmp(behaviour(), "none", 4) != 0;
    return answer("cuDeviceGetCount");
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = 7;
    return ordinal ? 101 : answer("cuDeviceGet");
}

int cuDeviceGetName(char *name, int length, int device)
{
    snprintf(name, (size_t)length, "a double");
    return device == 7 ? 0 : 101;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    *context = (void *)0x700000001; /* more than 32 bits, as the real one */
    return device == 7 ? 0 : 101;
}

int cuCtxSetCurrent(void *context) { return context == (void *)0x700000001 ? 0 : 201; }

int cuCtxSynchronize(void) { return answer("cuCtxSynchronize"); }

int cuMemAlloc_v2(uint64_t *place, size_t bytes)
{
    *place = (uint64_t)(uintptr_t)malloc(bytes);
    return *place ? answer("cuMemAlloc_v2") : 2;
}

int cuMemsetD32_v2(uint64_t place, unsigned value, size_t count)
{
    unsigned *words = (unsigned *)(uintptr_t)place;
    for (size_t at = 0; at < count; at++)
        words[at] = value;
    return 0;
}

int cuMemcpyDtoH_v2(void *target, uint64_t place, size_t bytes)
{
    memcpy(target, (void *)(uintptr_t)place, bytes);
    return 0;
}

int cublasCreate_v2(void **handle)
{
    *handle = (void *)0x900000001;
    return answer("cublasCreate_v2");
}

int cublasGetVersion_v2(void *handle, int *version)
{
    *version = 120000;
    return handle == (void *)0x900000001 ? 0 : 1;
}

int cublasSgemm_v2(void *handle, int transpose_a, int transpose_b, int m, int n, int k, const float *alpha,
                   uint64_t a, int lda, uint64_t b, int ldb, const float *beta, uint64_t c, int ldc)
{
    const float *left = (const float *)(uintptr_t)a, *right = (const float *)(uintptr_t)b;
    float *product = (float *)(uintptr_t)c;
    if (handle != (void *)0x900000001 || transpose_a || transpose_b || lda < m || ldb < k || ldc < m)
        return 7;
    for (int column = 0; column < n; column++)
        for (int row = 0; row < m; row++) {
            float sum = 0;
            for (int inner = 0; inner < k; inner++)
                sum += left[row + inner * lda] * right[inner + column * ldb];
            float *place = &product[row + column * ldc];
            *place = *alpha * sum + *beta * *place;
        }
    if (!strncmp(behaviour(), "wrong", 5))
        product[0] += 1;
    return answer("cublasSgemm_v2");
}
