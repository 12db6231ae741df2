# cmake -DPROGRAM=... [-DQEMU=...] -P check.cmake
# With QEMU: the baseline's function gives the same bits on a processor without AVX2 as on this one. Without:
# both functions give the same bits.
cmake_minimum_required(VERSION 3.20)

unset(ENV{ZIPML_ISA})

function(run result)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE code
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(out MATCHES "skipped:")
    message("${out}")
  elseif(NOT code EQUAL 0)
    string(REGEX REPLACE "[^\n]*TCG doesn't support[^\n]*\n" "" err "${err}")
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}: ended with ${code}\n${out}\n${err}")
  endif()
  set(${result} "${out}" PARENT_SCOPE)
endfunction()

foreach(order IN ITEMS row-major column-major)
  run(expected ${PROGRAM} baseline ${order})
  if(QEMU)
    run(got ${QEMU} -cpu Nehalem ${PROGRAM} baseline ${order})
  else()
    run(got ${PROGRAM} avx2 ${order})
  endif()
  if(NOT got MATCHES "skipped:" AND NOT got STREQUAL expected)
    message(FATAL_ERROR "${order}: expected ${expected}, got ${got}")
  endif()
  message("${order}: ${got}")
endforeach()
