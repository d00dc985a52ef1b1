// The kernels as loops, for tests on machines without a GPU.
#include "kernels.cu"
