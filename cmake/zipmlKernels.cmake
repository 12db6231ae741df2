# zipml::kernels, optional: zipml::zipml with the kernels and all that is no template compiled once, in a static library, instead of in every file.
# Built only when something links it. An installed package has its source, so that it is compiled like those who use it.
if(NOT TARGET zipml_kernels)
  add_library(zipml_kernels STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/kernels.cpp ${CMAKE_CURRENT_LIST_DIR}/library.cpp)
  set_target_properties(zipml_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(zipml_kernels PUBLIC zipml::zipml)
  target_compile_definitions(zipml_kernels PUBLIC ZIPML_COMPILED)
  add_library(zipml::kernels ALIAS zipml_kernels)
endif()
