// Everything a training program needs. The classes to know: World (who am I),
// DistributedDataParallel (wrap the model), CodecSpec (how gradients travel), Error (what went
// wrong).
#pragma once

#include "longhaul/base/error.h"
#include "longhaul/base/version.h"
#include "longhaul/codec/codec_spec.h"
#include "longhaul/ddp/distributed_data_parallel.h"
#include "longhaul/ddp/join.h"
#include "longhaul/runtime/world.h"
